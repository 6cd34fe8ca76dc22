# The scoring image with a user's own packages, in an environment of their own that only the entry script's process sees:
# what a script needs never fights with what the server needs. Where the script names no version of a package, it finds
# the server's. `edgefleet environments build` prepares the context; as the scoring image, this needs no network.
ARG BASE
ARG SCORING

FROM ${BASE} AS packages
# Whether the script may also import what the base image has: yes or no.
ARG BASE_PACKAGES=no
COPY packages /packages
RUN set -e; \
    pip="python -m pip --disable-pip-version-check --no-cache-dir"; \
    python -m venv --without-pip /opt/environment; \
    if [ -s /packages/lock.txt ]; then \
      $pip --python /opt/environment/bin/python install --no-index --no-deps --no-compile --require-hashes \
        --find-links /packages --requirement /packages/lock.txt; \
    fi; \
    /opt/environment/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/environment/lib \
      || echo "some files of these packages are not for this Python"; \
    python -c 'import site, sys; \
      print(*(site.getsitepackages() if sys.argv[1:] == ["yes"] else ()), sep="\n"); \
      print("/opt/edgefleet/lib/python%d.%d/site-packages" % sys.version_info[:2])' "${BASE_PACKAGES}" > /after.pth; \
    cp /after.pth "$(/opt/environment/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-after.pth"; \
    mkdir -p /layers/opt; \
    mv /opt/environment /layers/opt/; \
    find /layers -exec touch --no-dereference --date=@1000000000 {} +

FROM ${SCORING}
ENV EDGEFLEET_SCRIPT_PYTHON=/opt/environment/bin/python
