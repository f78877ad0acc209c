# Thin: what there is to do is in scripts/ and CMakeLists.txt.
.PHONY: help demo test build format lint clean setup

help:
	@echo "make demo    tune a matrix product here, then launch it from the cache"
	@echo "make test    check format, rooms and lint; build; test; test again under sanitizers"
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

build: setup
	@scripts/build.sh release

format: setup
	@git ls-files -co --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' | xargs .venv/bin/clang-format -i

lint: build
	@.venv/bin/python scripts/lint.py

clean:
	rm -rf build
