# kvbench in a container, as a user without rights. Run folders go to /work, so mount a folder of yours there:
#   docker build --target cpu -t kvbench .
#   docker run --rm -v "$PWD:/work" kvbench model=Qwen/Qwen3-0.6B
# With a GPU: build --target cuda, and run with --gpus all. torch's wheel brings its CUDA libraries along; the host needs
# the driver and NVIDIA's container toolkit.
#
# The base is pinned by its full version. A digest would pin it to the byte: add @sha256:… where your registry tells it.
FROM python:3.11.14-slim-bookworm AS wheel
# A build context has no git: name the version, as in --build-arg VERSION=0.2.0.
ARG VERSION=0+unknown
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY conf conf
COPY kvbench kvbench
RUN SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION" pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11.14-slim-bookworm AS base
# torch.compile on a CPU wants a C++ compiler, Triton on a GPU a C compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 kvbench \
    && install --directory --owner=kvbench /work
COPY constraints.txt /tmp/constraints.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

FROM base AS cuda
# kvbench-*.whl is taken from the first stage, and torch from the index's default wheel, which has CUDA.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install -c /tmp/constraints.txt /wheel/kvbench-*.whl
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["python", "-m", "kvbench"]

# Last, so that a build without --target makes this one.
FROM base AS cpu
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install -c /tmp/constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install -c /tmp/constraints.txt /wheel/kvbench-*.whl
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["python", "-m", "kvbench"]
