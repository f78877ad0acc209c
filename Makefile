# Thin: what there is to do is in scripts/ and CMakeLists.txt.
.PHONY: help demo test check build wheel format lint clean setup

help:
	@echo "make demo    tune a matrix product here, then launch it from the cache"
	@echo "make test    check format, rooms and lint; build; test; test again under sanitizers"
	@echo "make check ROOM=cache  build and run the tests of one room: a folder of tests/, or one in it"
	@echo "make wheel   build a wheel for this Python that needs nothing but glibc, into dist/"
	@echo "make build   build the library, cudadent-tune and the Python module into build/release"
	@echo "make format  format the sources"
	@echo "make lint    run clang-tidy over what changed"
	@echo "make clean   remove build/ (.venv stays)"

setup:
	@scripts/setup.sh

demo:
	@scripts/setup.sh demo
	@scripts/build.sh demo
	@scripts/demo.sh

test: setup
	@scripts/test.sh

check: setup
	@scripts/check.sh "$(ROOM)"

wheel: setup
	@scripts/wheel.sh

build: setup
	@scripts/build.sh release

format: setup
	@git ls-files -co --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' | xargs .venv/bin/clang-format -i

lint: build
	@.venv/bin/python scripts/lint.py

clean:
	rm -rf build
