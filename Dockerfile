# The exporter on Debian and its Python. docs/image.md says how to run it, and with which rights.
ARG BASE=docker.io/library/debian:trixie-slim

# -- python: what is common to both of the following -----------------------------------
FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libpython3-stdlib python3-minimal \
    && rm -rf /var/cache/apt/* /var/cache/debconf/*-old /var/lib/apt/lists/* /var/log/*

# -- build: /opt/venv is taken from here, and nothing else -----------------------------
FROM python AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcap2-bin python3-venv
WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
# pip stands beside the environment, not in it. Where packages come from an index of your own:
# docker build --secret id=pip.conf,src=...; the file is there for this step only.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv pip \
    && python3 -m venv --without-pip /opt/venv \
    && sed -n '/^flit-core==/,/# via/p' requirements-dev.lock >flit.lock \
    && pip/bin/pip install --no-cache-dir --require-hashes --requirement flit.lock \
    && pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement requirements.lock
COPY LICENSE README.md pyproject.toml ./
COPY exporter exporter
# The bytecode is never compared with its source, so that it holds whatever sets file times,
# and no start has to compile.
RUN pip/bin/python -m flit_core.wheel --outdir dist \
    && pip/bin/pip --python /opt/venv/bin/python install --no-index --no-deps --no-compile \
        dist/*.whl \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
# scapy reads its tables from this folder; without it, it would make one in the home directory.
RUN mkdir /opt/venv/cache \
    && XDG_CACHE_HOME=/opt/venv/cache /opt/venv/bin/python -c "import scapy.layers.inet6"
# A Python of its own, which has CAP_NET_RAW where the process inherits it. Never +ep: where
# the bounding set lacks the capability, such a Python does not start at all.
RUN cp --remove-destination /usr/bin/python3 /opt/venv/bin/python3 \
    && setcap cap_net_raw+ei /opt/venv/bin/python3

# -- the result ------------------------------------------------------------------------
FROM python
COPY --from=build /opt/venv /opt/venv
# For those who look the user up; a number without an entry does as well.
RUN echo 'egress:x:65532:65532::/:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'egress:x:65532:' >>/etc/group
# scapy, a library inside, is under GPL-2.0-only; the exporter itself is under MIT.
LABEL org.opencontainers.image.title="egress-exporter" \
      org.opencontainers.image.description="A Prometheus exporter for egress paths: where TCP traffic stops, and who stops it." \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only"
# PORT stands here because the environment wins over CONFIG_FILE: the health check, which
# reads no file, then knows the port.
ENV PATH=/opt/venv/bin:$PATH \
    PORT=8080 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/opt/venv/cache
WORKDIR /
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080
# A bare socket: no shell, and no HTTP library to import every 30 s.
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s CMD ["/opt/venv/bin/python", "-ISc", "\
import os, socket, sys; \
address = os.environ.get('LISTEN_ADDRESS') or '127.0.0.1', os.environ.get('PORT') or 8080; \
connection = socket.create_connection(address, timeout=2); \
connection.sendall(b'GET /-/healthy HTTP/1.0\\r\\n\\r\\n'); \
sys.exit(b' 200 ' not in connection.recv(64))"]
ENTRYPOINT ["egress-exporter"]
CMD ["serve"]
