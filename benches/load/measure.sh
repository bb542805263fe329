# shellcheck shell=bash disable=SC2154 # made by house.sh
# How it is measured: a load on one server at a time, its rate as the load generator saw it, and
# the CPU time that the server's process took for each request. Sourced by `run`.
#
# The CPU time is what to look at: other work on the machine changes it little, and where a core
# is full it is the rate's reciprocal. Rates are what people ask for.

# CPU time of a process and its children until now, in the kernel's ticks.
ticks() { # PROCESS
  local one sum=0 stat fields
  for one in $1 $(cat /proc/"$1"/task/*/children); do
    stat=$(</proc/"$one"/stat)
    # The name, in the second field, may have spaces.
    read -ra fields <<<"${stat##*) }"
    sum=$((sum + fields[11] + fields[12]))
  done
  echo "$sum"
}
tick_microseconds=$((1000000 / $(getconf CLK_TCK)))

as_headers() { # HEADER...: as arguments, in $headers
  local header
  headers=()
  for header; do headers+=(-H "$header"); done
}
server_of() { # URL: the process that serves it
  local rest=${1#*://}
  echo "${process[${rest%%/*}]}"
}

# Loads a server for a while: rate, and microseconds of CPU a request, in $measured.
load() { # URL SECONDS [HEADER]...
  local url=$1 seconds=$2 server report before after
  shift 2
  as_headers "$@"
  server=$(server_of "$url")
  before=$(ticks "$server")
  report=$(taskset -c "$client_core" wrk -t1 -c32 -d"${seconds}s" "${headers[@]}" "$url")
  after=$(ticks "$server")
  if grep -q 'Non-2xx\|Socket errors' <<<"$report"; then
    echo "$report" >&2
    exit 1
  fi
  measured=$(awk -v ticks=$((after - before)) -v each="$tick_microseconds" '
    / requests in / { count = $1 }
    /^Requests\/sec/ { rate = $2 }
    END { printf "%.0f %.2f", rate, ticks * each / count }' <<<"$report")
}

# Rounds of measurements, so that a slow moment of the machine hits all alike: a line for each
# in $work/rounds, with two columns for each call of `load`.
in_rounds() { # FUNCTION SECONDS: is called with the seconds, measures everything, and notes it
  "$1" 1 >/dev/null
  for _ in $(seq "$rounds"); do
    "$1" "$2"
    echo
  done >"$work/rounds"
}
note() { printf '%s ' "$measured"; }

# The median over the rounds of an expression of awk's over a round's columns.
median() { # EXPRESSION
  awk "{ print $1 }" "$work/rounds" | sort -n | awk '{ v[NR] = $1 }
    END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}
# Where the middle half of the rounds lies.
spread() { # EXPRESSION
  awk "{ print $1 }" "$work/rounds" | sort -n | awk '{ v[NR] = $1 }
    END { printf "%.2f-%.2f", v[int((NR + 3) / 4)], v[int((3 * NR + 1) / 4)] }'
}

too_slow=
at_least() { # WHAT RATIO MIN: notes what is slower than asked for
  if awk "BEGIN { exit !($2 < ${3:-0}) }"; then too_slow+=" $1"; fi
}

# The same bytes from each, before anything is measured.
same_bytes() { # FILE URL [HEADER]...
  local file=$1 url=$2
  shift 2
  as_headers "$@"
  for _ in 1 2; do
    curl -sfk "${headers[@]}" "$url" | cmp - "$file" ||
      { echo "$url has other bytes" >&2; exit 1; }
  done
}
