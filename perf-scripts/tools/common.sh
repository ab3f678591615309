# What the scripts share: faults of their command lines, and the machine's quiet. Sourced, after `usage` is defined; not run.

# refuse TEXT: ends the script for a reason that is not the command line's.
refuse() {
    echo "perf-scripts/$(basename "$0"): $1" >&2
    exit 1
}

# wrong TEXT: ends the script for a mistake in its command line.
wrong() {
    echo "perf-scripts/$(basename "$0"): $1" >&2
    usage >&2
    exit 2
}

# has_value FLAG [VALUE...]: whether something stands behind the flag.
has_value() {
    (($# > 1)) || wrong "$1 needs a value"
}

# whole FLAG VALUE: whether it is a whole number above 0.
whole() {
    [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || wrong "$1 $2: give a whole number above 0"
}

# number FLAG VALUE: whether it is a number above 0.
number() {
    [[ $2 =~ ^([0-9]{1,9}(\.[0-9]*)?|\.[0-9]+)$ && ! $2 =~ ^[0.]*$ ]] || wrong "$1 $2: give a number above 0"
}

# out_of FILE: the file's absolute path, when it can be written.
out_of() {
    local path
    path=$(realpath -m "$1")
    [[ -d $(dirname "$path") && -w $(dirname "$path") && ! -d $path ]] || wrong "--json $1: give a file in a folder that exists and is yours to write"
    echo "$path"
}

# needs COMMAND REMEDY: whether the command is there.
needs() {
    command -v "$1" >/dev/null || refuse "$1 is missing: $2"
}

# needs_perf
needs_perf() {
    needs perf 'install linux-perf (Debian) or linux-tools'
}

# calm FORCE: refuses while others use more than a tenth of a core, since the figures would be theirs; with FORCE yes the picture says so.
calm() {
    local busy
    busy=$(python3 -c 'import time
def used():
    numbers = [int(n) for n in open("/proc/stat").readline().split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4]
before = used(); time.sleep(1)
print(used() - before)')
    if ((busy > 10)); then
        [[ $1 == yes ]] || refuse "others use $busy % of a core: wait until the machine is quiet, or give --force"
        export CHART_NOTE="taken while others used $busy % of a core"
        echo "$CHART_NOTE" >&2
    fi
}
