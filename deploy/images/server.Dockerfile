# The image of the fleet server: Python, edgefleet[fleet,kubernetes,postgres], and the templates of the broker's configuration.
# `edgefleet images build --server` prepares the context, a folder of wheels, so the build needs no index, and a network only
# where the base has no ssh: Debian's is fetched then (--base names one that has it).
# Written for Docker's classic builder, as the other images.
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
LABEL org.opencontainers.image.title="edgefleet-server" \
      org.opencontainers.image.description="The fleet server of edgefleet, its first run, and the broker's configuration" \
      org.opencontainers.image.licenses="Apache-2.0"
# No module runs as this user (theirs is 10001), so that none that gets out of its container reads the fleet's keys.
# Volumes that are new take the owner of the folders that they cover: data, the broker's configuration, secrets.
RUN useradd --uid 10003 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin edgefleet-fleet; \
    install --directory --owner=10003 --group=10003 --mode=0700 /data /data/broker; \
    install --directory --owner=10003 --group=10003 --mode=0755 /run/secrets/edgefleet
# For targets behind ssh://; keys and known hosts lie in the data's volume.
RUN set -e; \
    command -v ssh >/dev/null || { \
        apt-get update -qq; \
        apt-get install -qq --yes --no-install-recommends openssh-client; \
        rm -rf /var/lib/apt/lists/*; \
    }; \
    mkdir -p /etc/ssh/ssh_config.d; \
    printf 'IdentityFile /data/ssh/id_ed25519\nUserKnownHostsFile /data/ssh/known_hosts\n' \
        > /etc/ssh/ssh_config.d/edgefleet.conf
COPY --from=installed /opt/edgefleet /opt/edgefleet
COPY broker /opt/edgefleet/share/edgefleet/deploy/broker
ENV PATH=/opt/edgefleet/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EDGEFLEET_FLEET_DATA=/data/fleet
USER 10003:10003
WORKDIR /data
EXPOSE 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-m", "fleet.healthy"]
ENTRYPOINT ["edgefleet-fleet"]
CMD ["serve"]
