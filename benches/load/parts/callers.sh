# shellcheck shell=bash disable=SC2154 # made by house.sh
# What asking who pulls costs: a second gate does (`callers`), and its policy says who may
# (`pulled_by`). It is asked with a user's password, with a token of its own and with an issuer's
# token, each of them known since the first request.
#
# The gate that does not ask is measured three times over: as it is asked for nothing, at both ends
# of a round, which says how far to trust the rest; and being sent the same header, which it does
# not look at. So what the header costs is told from what is made of it.

# ---- An issuer of tokens: two files and a key ---------------------------------------------
next_address
issuer=$address
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
silent openssl genrsa -out "$work/issuer.pem" 2048
modulus=$(openssl rsa -in "$work/issuer.pem" -noout -modulus | sed 's/^Modulus=//; s/../\\x&/g')
mkdir -p "$work/issuer/.well-known"
cat >"$work/issuer/.well-known/openid-configuration" <<EOF
{"issuer": "http://$issuer", "jwks_uri": "http://$issuer/keys"}
EOF
# shellcheck disable=SC2059 # the modulus is bytes, written as printf reads them
cat >"$work/issuer/keys" <<EOF
{"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench", "e": "AQAB",
           "n": "$(printf "$modulus" | base64url)"}]}
EOF
now=$(date +%s)
jwt=$(printf '{"alg":"RS256","kid":"bench","typ":"JWT"}' | base64url).$(base64url <<EOF
{"iss": "http://$issuer", "aud": "pullgate", "iat": $now, "nbf": $now, "exp": $((now + 7200)),
 "sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "ref": "refs/heads/main"}
EOF
)
jwt=$jwt.$(printf %s "$jwt" | openssl dgst -sha256 -sign "$work/issuer.pem" | base64url)
cat >"$work/issuer.conf" <<EOF
daemon off;
pid $work/issuer.pid;
events {}
http {
  access_log off;
  server { listen $issuer; root $work/issuer; default_type application/json; }
}
EOF
start issuer nginx -c "$work/issuer.conf" -e "$work/issuer-error.log"
until_up "$issuer"

# ---- The two gates ------------------------------------------------------------------------
{
  cat "$work/policies.yaml"
  cat <<EOF
    pulled_by: { any: [alice, job] }
pullers:
  alice: { user: alice }
  job: { oidc: { issuer: "http://$issuer", identity: "repo:acme/app:ref:refs/heads/main" } }
EOF
} >"$work/callers-policies.yaml"
# The password of both is "known".
for user in alice bob; do
  printf '%s:%s\n' $user '$2y$10$tC0MXBfAP98R1RNg3pp44O2nbO2mnF1o..amUrTJPpx/jvbFfIt.a'
done >"$work/users.htpasswd"
gate without policies.yaml
without=$address
# Tokens live longer than any run.
gate callers callers-policies.yaml "callers:
  htpasswd: users.htpasswd
  oidc: [{ issuer: 'http://$issuer', audience: pullgate }]
  tokens: { lifetime: 1h }"
callers=$address

echo hello >"$work/hello.txt"
image release/app "$work/hello.txt"
curl -sf -H "$accept" -o "$work/manifest" "http://$origin/v2/release/app/manifests/$digest"
status() { # HEADER...: what the second gate answers to it
  curl -s -o /dev/null -w '%{http_code}' -H "$accept" "$@" \
    "http://$callers/v2/release/app/manifests/v1"
}
[ "$(status)" = 401 ] || { echo 'nobody may pull, and does' >&2; exit 1; }
[ "$(status -u bob:known)" = 403 ] || { echo 'bob may not pull, and does' >&2; exit 1; }
own=$(curl -sf -u alice:known "http://$callers/token?scope=repository:release/app:pull" |
  sed 's/.*"token":"\([^"]*\)".*/\1/')
logins=(password "Basic $(printf alice:known | openssl base64 -A)" own "Bearer $own"
  issuer "Bearer $jwt")

# ---- Rounds -------------------------------------------------------------------------------
measure_callers() { # SECONDS
  load "http://$without$path" "$1" "$accept" && note
  for number in 1 3 5; do
    load "http://$without$path" "$1" "$accept" "Authorization: ${logins[number]}" && note
    load "http://$callers$path" "$1" "$accept" "Authorization: ${logins[number]}" && note
  done
  load "http://$without$path" "$1" "$accept" && note
}
echo "callers: a hot manifest, $rounds rounds of $seconds s"
for kind in tag digest; do
  path=/v2/release/app/manifests/v1
  [ $kind = tag ] || path=/v2/release/app/manifests/$digest
  for number in 1 3 5; do
    header="Authorization: ${logins[number]}"
    same_bytes "$work/manifest" "http://$without$path" "$accept" "$header"
    same_bytes "$work/manifest" "http://$callers$path" "$accept" "$header"
  done
  in_rounds measure_callers "$seconds"
  printf 'by %-6s  without %7.0f/s %6.2f us   again, in units of the first: %.2f (%s)\n' \
    $kind "$(median '$1')" "$(median '$2')" "$(median '$2 / $16')" "$(spread '$2 / $16')"
  for number in 1 3 5; do
    rate=$((2 * number + 3)) cpu=$((2 * number + 4)) unread=$((2 * number + 2))
    without_cpu='(($2 + $16) / 2)'
    ratio=$(median "$without_cpu / \$$cpu")
    printf '  %-10s %7.0f/s %6.2f us   of the rate without %.2f   of its CPU %.2f (%s)' \
      "${logins[number - 1]}" "$(median "\$$rate")" "$(median "\$$cpu")" \
      "$(median "2 * \$$rate / (\$1 + \$15)")" "$ratio" "$(spread "$without_cpu / \$$cpu")"
    printf '   without, sent the same header %.2f; of that %.2f (%s)\n' \
      "$(median "$without_cpu / \$$unread")" "$(median "\$$unread / \$$cpu")" \
      "$(spread "\$$unread / \$$cpu")"
    at_least "${logins[number - 1]}($kind)" "$ratio" "${CALLERS_RATIO_MIN:-}"
  done
done
