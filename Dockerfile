# resumed alone. It has no workflows, so it migrates, judges and counts; what resumes threads is the application's own
# image with resumed in it (deploy/docker/Dockerfile.sidecar). Built in the project's folder:
#
#     docker build -t resumed:0.2.0 .

FROM python:3.13-slim-trixie AS build
WORKDIR /build
COPY requirements-run.lock ./
# The copied environment has no pip: add packages in a stage like this one.
RUN python3 -m venv --without-pip /opt/resumed \
    && python3 -m pip --python /opt/resumed/bin/python install --no-cache-dir --require-hashes -r requirements-run.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python3 -m pip --python /opt/resumed/bin/python install --no-cache-dir --no-deps .

FROM python:3.13-slim-trixie
COPY --from=build /opt/resumed /opt/resumed
COPY deploy/docker/livez.py /opt/resumed/livez.py
ENV PATH=/opt/resumed/bin:$PATH
# A number, so that Kubernetes can see that it is not root without asking the image.
USER 65532:65532
WORKDIR /tmp
EXPOSE 9764
# Alive, not ready: a database that is away is waited for, and starting the container again would not bring it back.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/resumed/livez.py"]
ENTRYPOINT ["resumed"]
CMD ["run"]
