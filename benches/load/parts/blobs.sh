# shellcheck shell=bash disable=SC2154 # made by house.sh
# A large blob, in seconds of the server's CPU for a gigabyte: from the cache, and its fill, which
# is the first time that it is asked for. Every server has it on disk, and the kernel has it in
# memory.
blob_megabytes=${BLOB_MEGABYTES:-500}
fills=${FILLS:-2}

# A second repository for each fill, with other bytes.
layers=() digests=()
for number in $(seq 0 "$fills"); do
  head -c "${blob_megabytes}M" /dev/urandom >"$work/random.bin"
  image "release/large$number" "$work/random.bin"
  layers+=("/v2/release/large$number/blobs/$layer")
  digests+=("/v2/release/large$number/manifests/$digest")
done
rm "$work/random.bin"

urls_blobs=()
nginx_cache
urls_blobs+=("http://$nginx" "https://$nginx_tls")
gate blobs policies.yaml "cache: { directory: $work/blobs-cache }"
urls_blobs+=("http://$address")
gate blobs-tls policies.yaml "tls: $tls
cache: { directory: $work/blobs-tls-cache }"
urls_blobs+=("https://$address")
pull_through blobs-through ''
urls_blobs+=("http://$address")
pull_through blobs-through-tls "tls: $tls"
urls_blobs+=("https://$address")

# Fetches a blob: megabytes a second, and seconds of CPU a gigabyte, in $measured.
fetch() { # SERVER NUMBER
  local server before after took
  server=$(server_of "$1")
  before=$(ticks "$server")
  took=$(taskset -c "$client_core" curl -sfk -o /dev/null -w '%{time_total} %{size_download}' \
    "$1${layers[$2]}") || { echo "$1${layers[$2]} cannot be had" >&2; exit 1; }
  # What it has to do after the last byte belongs to it.
  [ "$2" = 0 ] || sleep 1
  after=$(ticks "$server")
  measured=$(awk -v ticks=$((after - before)) -v each="$tick_microseconds" '{
    printf "%.0f %.3f", $2 / $1 / 1e6, ticks * each / 1e6 / ($2 / 1e9) }' <<<"$took")
}
tell_blobs() { # WHAT
  local number name=(nginx pullgate distribution)
  for transport in 0 1; do
    printf '%-12s %-5s' "$1" "$([ $transport = 0 ] && echo plain || echo tls)"
    for number in 0 1 2; do
      printf '  %s %5.0f MB/s %.2f s/GB' "${name[number]}" \
        "$(median "\$$((4 * number + 2 * transport + 1))")" \
        "$(median "\$$((4 * number + 2 * transport + 2))")"
    done
    nginx_cpu="\$$((2 * transport + 2))" gate_cpu="\$$((2 * transport + 6))"
    printf '   pullgate/nginx %.2f (%s)   pullgate/distribution %.2f\n' \
      "$(median "$gate_cpu / $nginx_cpu")" "$(spread "$gate_cpu / $nginx_cpu")" \
      "$(median "$gate_cpu / \$$((2 * transport + 10))")"
  done
}

echo "blobs: $blob_megabytes MB, one reader; CPU seconds a gigabyte"
for number in $(seq "$fills"); do
  for url in "${urls_blobs[@]}"; do
    # As a client does it: the manifest first.
    curl -sfk -o /dev/null -H "$accept" "$url${digests[number]}"
    fetch "$url" "$number" && note
  done
  echo
done >"$work/rounds"
tell_blobs fill
measure_blobs() {
  for url in "${urls_blobs[@]}"; do fetch "$url" 0 && note; done
}
for url in "${urls_blobs[@]}"; do
  curl -sfk -o /dev/null -H "$accept" "$url${digests[0]}"
  fetch "$url" 0 && sleep 1
done
in_rounds measure_blobs ''
tell_blobs 'from cache'
