# Sourced by scripts that test: tests never see the user's database nor the winners that ship, and find NVRTC and the
# program where we put them. Needs $scratch, a folder.
export CUDADENT_CACHE="$scratch/cudadent.db" CUDADENT_SHIPPED=none VIRTUAL_ENV="$PWD/.venv"
export PATH="$PWD/build/release:$PWD/.venv/bin:$PATH"
unset CUDADENT_DEVICE CUDADENT_TEMPLATE_PATH
