#!/usr/bin/env bash
# Puts the tools that the tests run beside Python packages into a directory: prometheus and promtool, kustomize and
# kubeconform, the loader of compose files, and Chromium. What is on PATH already is taken from there.
# usage: tests/tools.sh BIN_DIR
set -euo pipefail
bin=$(mkdir -p "$1" && cd "$1" && pwd)
kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.5.0
compose_loader=github.com/compose-spec/compose-go/v2/cmd@v2.9.0

missing() { echo "tests/tools.sh: $1" >&2; exit 3; }
has() { test -x "$bin/$1" || command -v "$1" >/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! has kubeconform || ! has kustomize || ! has compose-loader; then
  command -v go >/dev/null || missing "Go is missing; it builds kubeconform, kustomize and the compose loader (Debian: apt install golang)."
  has kustomize || GOBIN=$bin go install "$kustomize"
  has kubeconform || GOBIN=$bin go install "$kubeconform"
  has compose-loader || { GOBIN=$work go install "$compose_loader" && mv "$work/cmd" "$bin/compose-loader"; }
fi

if ! has prometheus || ! has promtool; then
  command -v apt-get >/dev/null || missing "prometheus and promtool are missing; install them so that they are on PATH."
  # Unpacked, not installed: installing would also start a daemon.
  (cd "$work" && { apt-get -qq download prometheus 2>/dev/null \
    || { as_root apt-get -qq update && apt-get -qq download prometheus; }; }) \
    || missing "the Debian package prometheus could not be downloaded; install prometheus so that it is on PATH."
  dpkg-deb -x "$work"/prometheus_*.deb "$work/prometheus"
  cp "$work/prometheus/usr/bin/prometheus" "$work/prometheus/usr/bin/promtool" "$bin"
fi

if ! has chromium; then
  command -v apt-get >/dev/null || missing "chromium is missing; install it so that it is on PATH."
  { as_root apt-get -qq install -y --no-install-recommends chromium \
    || { as_root apt-get -qq update && as_root apt-get -qq install -y --no-install-recommends chromium; }; } >/dev/null \
    || missing "chromium could not be installed; install it so that it is on PATH."
fi
