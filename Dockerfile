# The images of lossd; docs/containers.md says how to run them.
#   docker build .                  the server on a CPU
#   docker build --target cuda .    the server on a GPU
#   docker build --target demo .    a client that runs the demo
# BuildKit, Docker's default since 23.0, builds only the stages that a target needs.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What lossd needs, without lossd: a change of our sources downloads nothing again.
FROM ${PYTHON_IMAGE} AS packages
ENV PATH=/opt/lossd/bin:$PATH \
    PIP_CONSTRAINT=/src/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
# No pip in it: an image installs nothing when it runs.
RUN python -m venv --without-pip /opt/lossd
WORKDIR /src
COPY pyproject.toml constraints.txt ./
COPY client/lossd/version.py client/lossd/
RUN mkdir -p server/lossd_server \
    && touch README.md LICENSE \
    && pip --python /opt/lossd/bin/python install '.[server]' \
    && pip --python /opt/lossd/bin/python uninstall --yes lossd

FROM packages AS wheel
COPY README.md LICENSE ./
COPY client client
COPY server server
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM packages AS cpu-build
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/lossd/bin/python install --no-deps /wheel/*.whl
COPY deploy/cpu-levels deploy/compile-kernels /usr/local/bin/
RUN compile-kernels /opt/lossd/built/kernels

# torch brings CUDA's libraries; the driver comes from the host.
FROM packages AS cuda-build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN pip --python /opt/lossd/bin/python install '.[server,gpu]' \
    && pip --python /opt/lossd/bin/python uninstall --yes lossd
COPY deploy/triton_launcher.py ./
RUN TRITON_CACHE_DIR=/opt/lossd/built/triton python triton_launcher.py && chmod -R a+rX /opt/lossd/built
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/lossd/bin/python install --no-deps /wheel/*.whl
COPY --from=cpu-build /opt/lossd/built/kernels /opt/lossd/built/kernels

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 lossd \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lossd
ENV PATH=/opt/lossd/bin:$PATH PYTHONUNBUFFERED=1
COPY deploy/cpu-levels deploy/entrypoint /usr/local/bin/
USER 10001:10001
EXPOSE 50051
STOPSIGNAL SIGTERM
# The start period covers a processor for which the image has no kernels.
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s --retries=3 CMD ["lossd", "health", "--timeout", "3"]
ENTRYPOINT ["entrypoint"]
CMD ["lossd", "serve"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRITON_LIBCUDA_PATH=/usr/lib/x86_64-linux-gnu
COPY --from=cuda-build /opt/lossd /opt/lossd
CMD ["lossd", "serve", "--device", "cuda"]

FROM runtime AS server
COPY --from=cpu-build /opt/lossd /opt/lossd

FROM server AS demo
HEALTHCHECK NONE
# For `lossd certificates`.
USER 0:0
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    PIP_CONSTRAINT=/constraints.txt pip --python /opt/lossd/bin/python install \
        --no-cache-dir --disable-pip-version-check --root-user-action=ignore cryptography
USER 10001:10001
COPY deploy/credentials /usr/local/bin/
COPY examples /opt/lossd/examples
CMD ["python", "/opt/lossd/examples/demo.py"]

# The last stage is what `docker build .` makes.
FROM server AS cpu
