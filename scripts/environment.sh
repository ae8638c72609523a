#!/bin/sh
# Make a virtual environment: environment.sh PYTHON DIRECTORY NAME installs requirements/NAME.txt, and after it, without
# their dependencies, requirements/NAME-no-deps.txt if there is one. Needs Python 3.11 with venv, nothing else.
set -eu
python=$1 directory=$2 name=$3

command -v "$python" >/dev/null || {
    echo "There is no $python here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2
    exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed, $python is $("$python" -V). Name another: make PYTHON=python3.12" >&2
    exit 1
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
    echo "This Python has no venv. On Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
}
echo "Making $directory (requirements/$name.txt), about a minute ..." >&2
"$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 -r "requirements/$name.txt"
if [ -e "requirements/$name-no-deps.txt" ]; then
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
        -r "requirements/$name-no-deps.txt"
fi
touch "$directory/ready"
