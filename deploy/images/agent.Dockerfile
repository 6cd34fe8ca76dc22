# The image of the agent, for devices on which everything runs in containers: Python and edgefleet[agent], with the
# gateway in it. What it needs from its host stands in deploy/agent/README.md. `edgefleet images build --agent` prepares
# the context, a folder of wheels, so the build needs no network and no index.
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
LABEL org.opencontainers.image.title="edgefleet-agent" \
      org.opencontainers.image.description="The agent and the gateway of an edgefleet device" \
      org.opencontainers.image.licenses="Apache-2.0"
# Never 10001, which is every module's user: a module would own the folder of its socket, which the agent closes to it.
RUN useradd --uid 10002 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edgefleet; \
    useradd --uid 10004 --no-user-group --gid 10002 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin \
      edgefleet-gateway; \
    install --directory --owner=10002 --group=10002 --mode=0750 /var/lib/edgefleet /run/edgefleet
COPY --from=installed /opt/edgefleet /opt/edgefleet
ENV PATH=/opt/edgefleet/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10002:10002
WORKDIR /
STOPSIGNAL SIGTERM
# Whether it is enrolled and can read what it remembers. That a module does not answer is the agent's to mend.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s CMD ["edgefleet-agent", "status"]
ENTRYPOINT ["edgefleet-agent"]
CMD ["run"]
