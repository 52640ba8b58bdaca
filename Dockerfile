# For the CPU:  docker build -t anomalous-sound .
# For CUDA:     docker build -t anomalous-sound-cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#               with --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 where that is your base
# Run it:       docker run --rm -v "$PWD:/data" anomalous-sound anomalous-sound check new.wav --model press_hall
#               with --gpus all for CUDA, and --user "$(id -u):$(id -g)" where your id is not 1000
ARG BASE=python:3.13-slim
FROM ${BASE}

# this index has torch for the CPU, which is much smaller; torch from PyPI brings CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=formats,mqtt

# images of CUDA have no Python
RUN command -v python3 >/dev/null || (apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*)

COPY . /source
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c /source/constraints.txt --no-deps --index-url ${TORCH_INDEX} torch \
    && /opt/venv/bin/pip install --no-cache-dir -c /source/constraints.txt "/source[${EXTRAS}]" \
    && rm -rf /source

# /data holds recordings, models and vectors; /state the state of a watch
RUN mkdir /data /state && chown 1000:1000 /data /state
ENV PATH=/opt/venv/bin:$PATH HOME=/data
USER 1000:1000
WORKDIR /data
CMD ["anomalous-sound", "--help"]
