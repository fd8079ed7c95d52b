# The exporter in the official Python image. Raw sockets need CAP_NET_RAW, which root has in a
# container of Docker, of Cloud Foundry and of an unrestricted Kubernetes pod: hence USER 0.
ARG PYTHON=docker.io/library/python:3.13-slim-trixie

FROM ${PYTHON} AS build
COPY requirements.lock .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock

FROM ${PYTHON}
# scapy, one of the libraries inside, is under GPL-2.0-only; the exporter itself is under MIT.
LABEL org.opencontainers.image.title="egress-exporter" \
      org.opencontainers.image.description="A Prometheus exporter for egress paths: where TCP traffic stops, and who stops it." \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY LICENSE ./
COPY exporter exporter
RUN python -m compileall -q exporter
USER 0
EXPOSE 8080
# http.client, because urllib would follow an injected HTTP_PROXY.
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s CMD ["python", "-c", "\
import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8080), 2); \
connection.request('GET', '/-/healthy'); \
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "exporter"]
CMD ["serve"]
