# The gateway in a container:
#   docker build -t any-proxy . && docker run -p 8999:8999 -v ./etc:/app/etc:ro -v ./data:/app/data any-proxy
FROM python:3.13-slim

RUN useradd --create-home --uid 10001 gateway
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY run.py .
COPY app app
COPY providers providers
COPY etc/c.yaml etc/c.yaml
RUN mkdir -p data && chown gateway data
USER gateway

EXPOSE 8999
VOLUME /app/data
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8999/healthz', timeout=2)"]
# The exec form, so that SIGTERM reaches the gateway and open streams may end.
CMD ["python", "run.py", "-c", "etc/c.yaml"]
