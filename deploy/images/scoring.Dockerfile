# The image that serves modules: Python, ONNX Runtime and edgefleet[scoring], nothing else. `edgefleet images build`
# prepares the context, a folder of wheels, so the build needs no network and no package index.
# Written for Docker's classic builder: no BuildKit mounts, no syntax line (which would pull an image).
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
COPY wheels /wheels
# Two trees become two layers: what we depend on, which is large and the same for the same wheels (all times are set, and
# byte code goes by content), and our own code, which is small. So a new edgefleet moves no ONNX Runtime to a device.
# Byte code is made here because the file system is read-only later. No wheel and no pip stays behind.
RUN set -e; \
    pip="python -m pip --disable-pip-version-check --no-cache-dir"; \
    python -m venv --without-pip /opt/edgefleet; \
    $pip --python /opt/edgefleet/bin/python install --no-index --no-deps --no-compile \
      $(find /wheels -name '*.whl' ! -name 'edgefleet-*' | sort); \
    echo /opt/edgefleet/code > "$(/opt/edgefleet/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/edgefleet.pth"; \
    mkdir -p /layers/dependencies/opt /layers/code/opt/edgefleet; \
    $pip install --no-index --no-deps --no-compile --target /opt/edgefleet/code /wheels/edgefleet-*.whl; \
    /opt/edgefleet/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/edgefleet/lib /opt/edgefleet/code; \
    $pip --python /opt/edgefleet/bin/python check; \
    mv /opt/edgefleet/code /layers/code/opt/edgefleet/; \
    mv /opt/edgefleet /layers/dependencies/opt/; \
    find /layers -exec touch --no-dereference --date=@1000000000 {} +

FROM ${BASE} AS scoring
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edgefleet
COPY --from=installed /layers/dependencies /
COPY --from=installed /layers/code /
# ORT_DISABLE_TELEMETRY: onnxruntime sends telemetry by default, and reads this before its first import.
ENV PATH=/opt/edgefleet/bin:$PATH \
    LANG=C.UTF-8 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /
ENTRYPOINT ["python", "-m", "modules.scoring"]
CMD ["--module", "/module", "--unix", "/run/edgefleet/s.sock"]
