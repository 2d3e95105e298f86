#!/bin/sh
# Open the chapters in JupyterLab. The front end has an environment of its own, .lab, since nothing of
# the book depends on it; the kernel, named lipsplines, is that of .venv.
# Run from the repository root, after tools/install.sh.
set -eu

lab=.lab
fail() { echo "error: $*" >&2; exit 1; }

stamp=$({ cat pyproject.toml; pwd; } | cksum)
if [ "$(cat "$lab/.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "lab: making $lab with JupyterLab (minutes the first time)"
    rm -rf "$lab"
    .venv/bin/python -m venv "$lab" || fail "$lab could not be created."
    .venv/bin/python - <<'END' >"$lab/requirements.txt"
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["optional-dependencies"]["lab"]))
END
    "$lab/bin/python" -m pip --disable-pip-version-check install -qq -r "$lab/requirements.txt" ||
        fail "JupyterLab could not be installed; see the lines above."
    # Notebooks ask for python3, the name that every front end knows: let it be this kernel, too.
    for name in lipsplines python3; do
        .venv/bin/python -m ipykernel install --prefix "$lab" --name "$name" --display-name lipsplines \
            >/dev/null 2>&1 || fail "the kernel could not be installed into $lab."
    done
    echo "$stamp" >"$lab/.stamp"
fi
exec "$lab/bin/jupyter" lab --notebook-dir=. "$@"
