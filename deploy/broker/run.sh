#!/bin/sh
# mosquitto in a container, where the fleet server cannot signal it: told here to read its certificates and the list of
# revoked ones again, within seconds of their change. `edgefleet-fleet broker-config` writes it beside mosquitto.conf.
set -eu
here=$(dirname "$0")
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

seen() { cat "$here"/*.pem | cksum; }

known=$(seen)
mosquitto -c "$here/mosquitto.conf" &
broker=$!
trap 'kill -TERM "$broker"' TERM INT
# Says to the fleet server that nobody has to be asked for a signal.
: > "$here/watched"
while kill -0 "$broker" 2>/dev/null; do
    sleep 2 &
    wait $! || true
    new=$(seen)
    if [ "$new" != "$known" ]; then
        kill -HUP "$broker" && known=$new
    fi
done
rm -f "$here/watched"
wait "$broker"
