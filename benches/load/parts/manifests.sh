# shellcheck shell=bash disable=SC2154 # made by house.sh
# Hot manifests over connections that stay open.
# shellcheck source=benches/load/peers.sh
. "$here/peers.sh"

compare "manifests: hot, 32 connections that stay open" '' tag digest
