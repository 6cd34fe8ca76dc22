# The image that stands before an endpoint in the cloud: Python and edgefleet[agent], of which it runs the gateway; in a
# pod, it brings the module besides (python -m agent.content).
# `edgefleet images build --gateway` prepares the context, a folder of wheels; as the scoring image, this needs no network.
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
COPY wheels /wheels
RUN set -e; \
    pip="python -m pip --disable-pip-version-check --no-cache-dir"; \
    python -m venv --without-pip /opt/edgefleet; \
    $pip --python /opt/edgefleet/bin/python install --no-index --no-deps --no-compile /wheels/*.whl; \
    /opt/edgefleet/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/edgefleet/lib; \
    $pip --python /opt/edgefleet/bin/python check

FROM ${BASE}
# A volume that is new takes the owner of the folder that it covers.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edgefleet; \
    install --directory --owner=10001 --group=10001 --mode=0700 /door
COPY --from=installed /opt/edgefleet /opt/edgefleet
ENV PATH=/opt/edgefleet/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /
ENTRYPOINT ["python", "-m", "agent.gateway"]
