#!/bin/sh
# Make sure that the system has what tests of the relay's operation talk to. Only root can install it, on Debian and
# Ubuntu; anybody else is told what is missing.
set -eu

missing=
add() {
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}
add nginx nginx-light

[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing on this system:$missing. Install it, as root on Debian and Ubuntu: apt-get install$missing" >&2
    exit 1
fi
echo "Installing$missing ..." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # several names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
