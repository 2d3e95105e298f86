#!/bin/sh
# Make .venv from requirements.lock, or do nothing if it is already whole and current.
# Run from the repository root. PYTHON=/path/to/python chooses the interpreter.
set -eu

venv=.venv
fail() { echo "error: $*" >&2; exit 1; }

[ -f requirements.lock ] || fail "requirements.lock is not here; run make in the root of the repository."

# The stamps say what was installed, and where: a virtual environment cannot be moved.
lock=$({ cat requirements.lock; pwd; } | cksum)
package=$(cat pyproject.toml lipsplines/_version.py | cksum)
stamped() { [ -f "$venv/.$1" ] && [ "$(cat "$venv/.$1")" = "$2" ]; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

install_package() {
    pip install -qq --no-deps --no-build-isolation --editable . ||
        fail "the package could not be installed into $venv; see the lines above."
    echo "$package" >"$venv/.package"
}

if stamped lock "$lock" && "$venv/bin/python" -c "" 2>/dev/null; then
    stamped package "$package" || install_package
    exit 0
fi

python=
bare= # new enough, but cannot create virtual environments
for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$name" ] || continue
    "$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || continue
    if "$name" -c "import venv, ensurepip" 2>/dev/null; then
        python=$name
        break
    fi
    bare=${bare:-$name}
done
if [ -z "$python" ] && [ -n "$bare" ]; then
    minor=$("$bare" -c "import sys; print('%d.%d' % sys.version_info[:2])")
    fail "$bare cannot create virtual environments; install the package python$minor-venv (Debian, Ubuntu) and run make again."
fi
[ -n "$python" ] || fail "no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3."

echo "install: making $venv with $("$python" --version) from requirements.lock (minutes the first time)"
rm -rf "$venv" # what an interrupted install left has no stamp and is not mended but replaced
"$python" -m venv "$venv" || fail "$python could not create $venv."
quiet=-qq
if [ -t 1 ]; then quiet=; fi
pip install $quiet -r requirements.lock ||
    fail "requirements.lock could not be installed; see the lines above, mend the cause and run make again."
echo "$lock" >"$venv/.lock"
install_package
echo "install: done"
