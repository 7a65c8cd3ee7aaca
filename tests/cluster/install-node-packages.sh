#!/bin/sh
# Installs what the tests need from Debian or Ubuntu: a container runtime, its network plugins and iptables for real
# nodes, PostgreSQL, and SIMDe, which emulates AVX-512. Does nothing when all of it is there; asks nothing. Without root
# it says what is missing: those tests are then skipped, aloud.
set -eu
missing=
command -v containerd > /dev/null || missing="$missing containerd"
command -v runc > /dev/null || missing="$missing runc"
command -v iptables > /dev/null || missing="$missing iptables"
command -v ip > /dev/null || missing="$missing iproute2"
command -v openssl > /dev/null || missing="$missing openssl"
[ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || missing="$missing containernetworking-plugins"
[ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2> /dev/null)" ] || command -v initdb > /dev/null || missing="$missing postgresql"
[ -d /usr/include/simde ] || missing="$missing libsimde-dev"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "missing for some tests:$missing (run $0 as root)" >&2
  exit 0
fi
command -v apt-get > /dev/null || { echo "missing for some tests:$missing" >&2; exit 0; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086  # a list of package names
apt-get install -qy --no-install-recommends $missing
