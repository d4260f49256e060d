# The server and its models. CPU: docker build -t lectern .     GPU: docker build --build-arg RUNTIME=gpu -t lectern:gpu .
#   docker run --rm --read-only -p 8000:8000 lectern            docker run --rm --read-only --gpus all -p 8000:8000 lectern:gpu
# Any base with Python 3.11 or newer and its venv module does; CUDA comes from its own wheels, so no CUDA base is needed.
ARG BASE=python:3.13-slim

FROM ${BASE} AS builder
ARG RUNTIME=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY pyproject.toml ./
COPY .ci/requirements.py .ci/constraints.txt .ci/
# The environment that is shipped holds no pip: another one beside it installs into it.
RUN set -eu; \
    python3 -m venv --without-pip /opt/venv; \
    python3 -m venv /opt/tools; \
    python3 .ci/requirements.py "$RUNTIME" > requirements.txt; \
    /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet --no-compile \
        --constraint .ci/constraints.txt --requirement requirements.txt
# What the server never opens: the packages' own tests and headers, static libraries, type stubs, ONNX Runtime's
# tools for making models. Byte code is made here, once, because nothing can be written later; it is trusted
# unchecked, since the sources beside it cannot change either.
COPY app /srv/lectern/app
RUN set -eu; \
    cd /opt/venv/lib/python3*/site-packages; \
    find . -depth -type d \( -name tests -o -name include \) -exec rm -rf {} +; \
    find . -type f \( -name '*.a' -o -name '*.pyi' -o -name '*.pxd' \) -delete; \
    rm -rf onnxruntime/tools onnxruntime/transformers onnxruntime/quantization onnxruntime/datasets numpy/f2py; \
    python3 -m compileall -q --invalidation-mode unchecked-hash . /srv/lectern/app

FROM ${BASE}
ARG RUNTIME=cpu
LABEL org.opencontainers.image.title="Lectern" \
      org.opencontainers.image.description="Trained models as a documented REST endpoint" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT AND LicenseRef-training-data" \
      lectern.runtime="${RUNTIME}"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LECTERN_HOST=0.0.0.0 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /srv/lectern
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /srv/lectern/app app
COPY models models
# The code is under MIT; the terms of the data that each model learnt from stand in the same file.
COPY LICENSE ./
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('LECTERN_PORT', '8000') + '/health/ready', timeout=2)"]
ENTRYPOINT ["python3", "-m", "app"]
