# shellcheck shell=bash disable=SC2154,SC2034 # made by house.sh
# The gate and its peers, all with the same manifest, in the clear and over TLS. Sourced by the
# parts that want them; they are started once.

start_peers() {
  echo hello >"$work/hello.txt"
  image release/app "$work/hello.txt"
  by_tag=/v2/release/app/manifests/v1
  by_digest=/v2/release/app/manifests/$digest
  curl -sf -H "$accept" -o "$work/manifest" "http://$origin$by_digest"
  nginx_cache
  bare_server "$by_tag" "$work/manifest" "$media_type" "$by_digest" "$work/manifest" "$media_type"
  gate plain policies.yaml
  urls_plain=("http://$nginx" "http://$bare" "http://$address")
  gate secure policies.yaml "tls: $tls"
  urls_tls=("https://$nginx_tls" "https://$bare_tls" "https://$address")
  pull_through through ''
  urls_plain+=("http://$address")
  pull_through through-tls "tls: $tls"
  urls_tls+=("https://$address")
  for url in "${urls_plain[@]}" "${urls_tls[@]}"; do
    same_bytes "$work/manifest" "$url$by_tag" "$accept"
    same_bytes "$work/manifest" "$url$by_digest" "$accept"
  done
  curl -sf -H "$accept" -D - -o /dev/null "http://$nginx$by_digest" | grep -qi '^X-Cache-Status: HIT'
}
[ -n "${urls_plain:-}" ] || start_peers

measure_peers() { # SECONDS: in the order of $urls
  for url in "${urls[@]}"; do
    load "$url$path" "$1" "$accept" ${more:+"$more"} && note
  done
}
compare() { # TITLE HEADER KIND...: the table of a part, from rounds of all peers
  local title=$1 more=$2 transport kind path urls ratio min
  shift 2
  echo "$title, $rounds rounds of $seconds s"
  for transport in plain tls; do
    urls=("${urls_plain[@]}") min=${RATIO_MIN:-}
    [ $transport = plain ] || urls=("${urls_tls[@]}") min=${TLS_RATIO_MIN:-}
    for kind; do
      path=$by_tag
      [ "$kind" = tag ] || path=$by_digest
      in_rounds measure_peers "$seconds"
      ratio=$(median '$2 / $6')
      printf '%-5s by %-6s' $transport "$kind"
      printf '  nginx %7.0f/s %6.1f us' "$(median '$1')" "$(median '$2')"
      printf '  bare %7.0f/s %6.1f us' "$(median '$3')" "$(median '$4')"
      printf '  pullgate %7.0f/s %6.1f us' "$(median '$5')" "$(median '$6')"
      printf '  distribution %6.0f/s %6.1f us\n' "$(median '$7')" "$(median '$8')"
      printf '       nginx/pullgate %.2f (%s)' "$ratio" "$(spread '$2 / $6')"
      printf '   nginx/bare %.2f   bare/pullgate %.2f (%s)' "$(median '$2 / $4')" \
        "$(median '$4 / $6')" "$(spread '$4 / $6')"
      printf '   distribution/pullgate %.1f\n' "$(median '$8 / $6')"
      at_least "$transport($kind)" "$ratio" "$min"
    done
  done
}
