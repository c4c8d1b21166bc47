# The gateway in a container: compose.yaml, or the command in README.md. To the container, its host is a
# remote machine: callers need ANY_PROXY_TOKEN. Mounted files must belong to uid 10001, or be readable
# (etc/c.yaml) and writable (data) by it.
FROM python:3.13-slim

RUN useradd --create-home --uid 10001 gateway
WORKDIR /app
COPY requirements.txt requirements-postgres.txt ./
RUN pip install --no-cache-dir -r requirements.txt -r requirements-postgres.txt
COPY run.py .
COPY app app
COPY providers providers
COPY etc/c.yaml etc/c.yaml
RUN mkdir -p data && chown gateway data
USER gateway

EXPOSE 8999
VOLUME /app/data
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "run.py", "ping"]
# The exec form, so that SIGTERM reaches the gateway and open streams can finish. The health check also
# uses settings given as ANY_PROXY_... variables, but not flags of this command.
CMD ["python", "run.py"]
