# shellcheck shell=bash disable=SC2154 # made by house.sh
# Hot manifests, each over a connection of its own: podman, skopeo and dockerd pull so. The load
# generator has more to do for a connection than a server, so that rates say nothing here. Over TLS
# it resumes its sessions where it can, as with all of these; TLS 1.3 exchanges keys all the same.
# shellcheck source=benches/load/peers.sh
. "$here/peers.sh"

RATIO_MIN=${CONNECTION_RATIO_MIN:-} TLS_RATIO_MIN=${CONNECTION_TLS_RATIO_MIN:-} \
  compare "connections: a hot manifest over a new one each" 'Connection: close' digest
