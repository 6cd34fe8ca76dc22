# The image that serves modules: Python, ONNX Runtime and edgefleet[scoring], nothing else. `edgefleet images build`
# prepares the context (wheels/ and requirements.txt), so the build needs no network and no package index.
# Written for Docker's classic builder: no BuildKit mounts, no syntax line (which would pull an image).
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
COPY wheels /wheels
COPY requirements.txt /requirements.txt
# The virtual environment alone moves on: no wheel and no pip stay behind in a layer. Byte code is made here, because the
# file system is read-only later, and goes by content, because layers do not keep times exactly.
RUN python -m venv --without-pip /opt/edgefleet \
 && python -m pip --python /opt/edgefleet/bin/python install --no-index --find-links=/wheels --no-compile \
    --no-cache-dir --disable-pip-version-check --requirement /requirements.txt \
 && /opt/edgefleet/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/edgefleet/lib

FROM ${BASE}
# ORT_DISABLE_TELEMETRY: onnxruntime sends telemetry by default, and reads this before its first import.
ENV PATH=/opt/edgefleet/bin:$PATH \
    LANG=C.UTF-8 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edgefleet
COPY --from=installed /opt/edgefleet /opt/edgefleet
USER 10001:10001
WORKDIR /
ENTRYPOINT ["python", "-m", "modules.scoring"]
CMD ["--module", "/module", "--unix", "/run/edgefleet/s.sock"]
