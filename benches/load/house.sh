# shellcheck shell=bash disable=SC2034 # read by the file that sources this one
# What is measured: an upstream registry with signed images, the gate, and its peers, all of
# them on one core. Sourced by `run`.
#
# The gate runs as in production: images are signed by cosign, policy demands the signature,
# verdicts, metrics and decision records are on. Its peers write no access log.

for program in registry cosign crane nginx wrk taskset curl openssl; do
  command -v "$program" >/dev/null || { echo "$program is missing: run .ci/install" >&2; exit 1; }
done
[ "$(nproc)" -ge 2 ] || { echo 'two cores are needed, one for the load' >&2; exit 1; }

cargo build --quiet --profile dist --bin pullgate --example bare
target=${CARGO_TARGET_DIR:-target}/dist
work=$(mktemp -d)
chmod 755 "$work"
running=()
clean() {
  [ ${#running[@]} -eq 0 ] || kill "${running[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap clean EXIT

cores=()
while read -r core; do cores+=("$core"); done < <(
  taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' |
    while IFS=- read -r from to; do seq "$from" "${to:-$from}"; done)
server_core=${cores[0]} client_core=${cores[1]}

# Which process serves an address: its CPU time is what is measured.
declare -A process=()
# Ports below those that the kernel hands out by itself.
port=$((21000 + $$ % 8000))
next_address() { # in $address
  address=127.0.0.1:$port
  port=$((port + 1))
}
until_up() { # ADDRESS
  for _ in $(seq 200); do
    (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null && return
    sleep 0.05
  done
  echo "nothing listens on $1" >&2
  tail -n 20 "$work"/*.log >&2
  exit 1
}
start() { # NAME COMMAND...: on the servers' core; its process in $started
  local log=$work/$1.log
  shift
  taskset -c "$server_core" "$@" >"$log" 2>&1 </dev/null &
  started=$!
  running+=("$started")
}
silent() { "$@" >>"$work/setup.log" 2>&1 || { cat "$work/setup.log" >&2; exit 1; }; }

silent openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
  -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
  -keyout "$work/tls.key" -out "$work/tls.crt"
tls="{ certificate: $work/tls.crt, key: $work/tls.key }"

# ---- Registries ---------------------------------------------------------------------------
registry() { # NAME HTTP [MORE]: distribution, with more configuration; on $address
  next_address
  cat >"$work/$1.yml" <<EOF
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: $work/$1 } }
http: { addr: "$address", $2 }
${3:-}
EOF
  start "$1" env OTEL_TRACES_EXPORTER=none registry serve "$work/$1.yml"
  process[$address]=$started
  until_up "$address"
}
registry origin ''
origin=$address
pull_through() { # NAME HTTP: distribution as a cache of it; on $address
  registry "$1" "$2" "proxy: { remoteurl: 'http://$origin' }"
}

# ---- Images -------------------------------------------------------------------------------
export HOME=$work COSIGN_PASSWORD=
(cd "$work" && silent cosign generate-key-pair)
media_type=application/vnd.oci.image.manifest.v1+json
accept="Accept: $media_type"

# A signed image whose manifest has 1.5 KB, of one layer with this file.
image() { # REPOSITORY FILE: its digest in $digest, the layer's in $layer
  local padding
  padding=$(head -c 1100 /dev/zero | tr '\0' x)
  tar -C "$(dirname "$2")" -cf "$work/layer.tar" "$(basename "$2")"
  silent crane append --insecure --oci-empty-base -f "$work/layer.tar" -t "$origin/$1:base"
  silent crane mutate --insecure --annotation "padding=$padding" -t "$origin/$1:v1" \
    "$origin/$1:base"
  rm "$work/layer.tar"
  digest=$(crane digest --insecure "$origin/$1:v1")
  layer=$(crane manifest --insecure "$origin/$1:v1" | tr '\n' ' ' |
    sed 's/.*"layers": *\[ *{[^]]*"digest": *"\([^"]*\)".*/\1/')
  silent cosign sign -y --allow-http-registry --key "$work/cosign.key" \
    --new-bundle-format=false --use-signing-config=false --tlog-upload=false "$origin/$1@$digest"
}

# ---- The gate -----------------------------------------------------------------------------
cat >"$work/policies.yaml" <<EOF
signers:
  ours: { key: { file: cosign.pub }, transparency_log: not_required }
policies:
  - name: releases
    images: ["$origin/release/**"]
    signed_by: ours
EOF
gate() { # NAME POLICIES [MORE]: with more configuration; on $address
  cat >"$work/$1.yaml" <<EOF
listen: 127.0.0.1:0
admin: 127.0.0.1:0
upstreams: { "$origin": { url: "http://$origin" } }
default_upstream: "$origin"
policies: [$2]
${3:-}
EOF
  start "$1" "$target/pullgate" serve --config "$work/$1.yaml"
  for _ in $(seq 200); do
    grep -q '^listening on ' "$work/$1.log" && break
    sleep 0.05
  done
  address=$(sed -n 's/^listening on \(.*\), admin on .*/\1/p' "$work/$1.log")
  [ -n "$address" ] || { cat "$work/$1.log" >&2; exit 1; }
  process[$address]=$started
}

# ---- nginx --------------------------------------------------------------------------------
# One process for both: a cache of the registry, in the clear and over TLS.
nginx_cache() { # its addresses in $nginx and $nginx_tls
  local location="location / {
      proxy_pass http://$origin;
      proxy_cache contents;
      proxy_cache_valid 200 1h;
      add_header X-Cache-Status \$upstream_cache_status;
    }"
  next_address
  nginx=$address
  next_address
  nginx_tls=$address
  cat >"$work/nginx.conf" <<EOF
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx-error.log;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  proxy_temp_path $work/nginx-temp;
  client_body_temp_path $work/nginx-body;
  fastcgi_temp_path $work/nginx-fastcgi;
  uwsgi_temp_path $work/nginx-uwsgi;
  scgi_temp_path $work/nginx-scgi;
  proxy_cache_path $work/nginx-cache keys_zone=contents:10m;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate $work/tls.crt;
  ssl_certificate_key $work/tls.key;
  server {
    listen $nginx deferred;
    $location
  }
  server {
    listen $nginx_tls ssl deferred;
    $location
  }
}
EOF
  start nginx nginx -c "$work/nginx.conf" -e "$work/nginx-error.log"
  process[$nginx]=$started process[$nginx_tls]=$started
  until_up "$nginx"
}

# ---- A bare hyper server ------------------------------------------------------------------
bare_server() { # its addresses in $bare and $bare_tls; ARGUMENTS: as it takes them
  next_address
  bare=$address
  next_address
  bare_tls=$address
  start bare "$target/examples/bare" "$bare" "$bare_tls" "$work/tls.crt" "$work/tls.key" "$@"
  process[$bare]=$started process[$bare_tls]=$started
  until_up "$bare"
}
