# The gateway in a container, see docs/deploy.md. Three stages: `build` installs, `root` is what is needed of
# the base, and the image has both, but no pip, no apt, no compiler and no debug symbols.
#
# Any base with apt and Python 3.11 or newer will do:  --build-arg BASE=python:3.12-slim
# Packages that are not needed can be left out:        --build-arg WITHOUT="discord.py psycopg psycopg-binary"
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# binutils: three quarters of the packages' size are debug symbols, which strip removes. Debian's own
# Python has its venv in a package of its own.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends binutils \
    && { python3 -c 'import ensurepip' 2>/dev/null \
        || apt-get install -y -qq --no-install-recommends python3-venv; }
WORKDIR /app
RUN python3 -m venv .venv
COPY requirements.lock ./
RUN .venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile \
    --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml requirements.txt requirements-postgres.txt requirements-otel.txt README.md LICENSE source/
COPY app source/app
COPY providers source/providers
ARG WITHOUT=""
# Libraries in *.libs were changed by auditwheel, which strip does not survive.
# Bytecode is kept of what a gateway imports, not of everything that its packages have.
RUN .venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --no-index \
        --no-deps --no-build-isolation ./source \
    && .venv/bin/pip uninstall -y -q setuptools pip ${WITHOUT} \
    && find .venv -name '*.so' ! -path '*.libs/*' -exec strip --strip-unneeded {} + \
    && find .venv \( -name '*.py[ix]' -o -name '*.pxd' -o -name '*.[ch]' \) -delete \
    && find .venv -name __pycache__ -prune -exec rm -rf {} + \
    && .venv/bin/python -c 'import app.process.server, app.cli.check_keys, app.pool.redis_sync' \
    && rm -rf source .venv/lib/python3*/site-packages/discord/bin

# The base without its package manager and what only that uses. Deleted in a layer over the base it would
# still be part of the image, so the image starts from nothing and copies what is left. dpkg stays: a
# scanner reads in its list what is installed.
FROM ${BASE} AS root
RUN useradd --no-create-home --uid 10001 gateway \
    && dpkg --purge --force-all $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' \
            apt 'libapt-pkg*' gpgv sqv debian-archive-keyring adduser debconf perl-base \
            e2fsprogs logsave 'libext2fs2*' 'libss2*' \
            'libgnutls30*' 'libhogweed6*' 'libnettle8*' 'libp11-kit0' 'libtasn1-6' 2>/dev/null \
        | sed -n 's/^ii //p') \
    && rm -rf /var/cache/* /var/log/* /var/lib/apt /usr/lib/*-linux-gnu/gconv /usr/share/perl5 \
        /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* /usr/local/include \
    && find /usr/lib /usr/local/lib -maxdepth 2 -path '*/python3.*' \
        \( -name ensurepip -o -name idlelib -o -name lib2to3 -o -name pydoc_data -o -name test \
        -o -name tkinter -o -name 'turtle*' \) -exec rm -rf {} +

FROM scratch
LABEL org.opencontainers.image.title="any-proxy" org.opencontainers.image.licenses="MIT"
COPY --from=root / /
WORKDIR /app
# From scratch, so without the base's variables.
ENV PATH=/app/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /app/.venv .venv
COPY etc/c.yaml etc/c.yaml
# The second import is for Python's own bytecode: with a read-only root nothing could keep it, and each
# health check would compile it again. It also fails here if a library is broken.
RUN mkdir data && chown gateway:gateway data \
    && PYTHONDONTWRITEBYTECODE= python -c \
        'import app.process.server, app.cli.check_keys, app.cli.running_gateway, app.pool.redis_sync'
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001

EXPOSE 8999
VOLUME /app/data
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["any-proxy", "ping"]
# The exec form, so that SIGTERM reaches the gateway and open streams can finish. The health check also
# uses settings given as ANY_PROXY_... variables, but not flags.
ENTRYPOINT ["any-proxy"]
