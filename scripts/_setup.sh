# Sourced by the scripts beside it: ends in the project folder with an up-to-date .venv that holds talkies.
# usage: source _setup.sh REQUIREMENTS_FILE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'talkies: %s\n' "$*" >&2; exit 1; }

# Says of what .venv was made, the requirements file and a digest of all that decides its content, and where. Its programs
# name that place: one that was moved does not start, one that was copied with the folder runs the other folder's code.
stamp() {
  echo "$1 $(cat requirements.txt requirements-dev.txt requirements-uv.txt pyproject.toml | sha256sum | cut -d' ' -f1)"
  echo "$PWD"
}

setup() {
  local requirements=$1 python="" candidate
  # The development packages include all the others.
  for candidate in "$requirements" requirements-dev.txt; do
    if [ "$(cat .venv/talkies-stamp 2>/dev/null)" = "$(stamp "$candidate")" ]; then return; fi
  done
  for candidate in python3.11 python3.12 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
      python=$candidate; break
    fi
  done
  [ -n "$python" ] || fail "Python 3.11 or 3.12 is needed; install one and run this again."
  if [ ! -x .venv/bin/uv ] || [ "$(sed -n 2p .venv/talkies-stamp 2>/dev/null)" != "$PWD" ]; then
    echo "talkies: creating .venv with $($python --version)" >&2
    rm -rf .venv
    "$python" -m venv .venv || fail "$python cannot create a virtual environment; on Debian and Ubuntu install python3-venv."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt \
      || fail "uv could not be installed; is a Python package index reachable?"
  fi
  echo "talkies: installing $requirements" >&2
  .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r "$requirements" \
    && .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps \
      --build-constraints model_repository/kit/requirements-build.txt -e model_repository/kit -e . \
    || fail "the packages of $requirements could not be installed; the lines above say why."
  stamp "$requirements" > .venv/talkies-stamp
}

# One at a time: two scripts would install into the same .venv.
exec 9< .
flock 9 || fail "the project folder cannot be locked."
setup "$1"
exec 9<&-
shift
