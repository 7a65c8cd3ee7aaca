#!/bin/sh
# Installs what a real test node needs from Debian or Ubuntu: a container runtime, its network plugins, iptables.
# Does nothing when all of it is there; needs root; asks nothing.
set -eu
missing=
command -v containerd > /dev/null || missing="$missing containerd"
command -v runc > /dev/null || missing="$missing runc"
command -v iptables > /dev/null || missing="$missing iptables"
command -v ip > /dev/null || missing="$missing iproute2"
command -v openssl > /dev/null || missing="$missing openssl"
[ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || missing="$missing containernetworking-plugins"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "node packages missing:$missing (run this as root)" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086  # a list of package names
apt-get install -qy --no-install-recommends $missing
