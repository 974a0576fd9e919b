# One image for every role: docker run IMAGE scheduler | server | worker SCRIPT | page | run -s 2 -w 4 SCRIPT.
# With wheels in wheels/ nothing is fetched from an index; with BASE a local image, nothing is fetched at all.
# Health is asked per role, by psctl ping, in compose.yaml: a check that is right for all that psctl can be there is not.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# monitor is for the page and /metrics. examples has scikit-learn, and SciPy with it: 240 MB for digits.py.
ARG EXTRAS=monitor
ARG PACKAGES=
# What compiles the loops of ps.native. Where it cannot be had, as without a network, NumPy does their work.
ARG COMPILER="gcc libc6-dev"
RUN command -v cc >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends ${COMPILER}; } \
    || echo "no C compiler: NumPy will do the arithmetic" >&2
WORKDIR /deps
COPY pyproject.toml LICENSE wheels* ./
# The dependencies first, with an empty package: an edit of the sources leaves this layer as it is.
RUN python3 -m venv /opt/ps \
    && if ls ./*.whl >/dev/null 2>&1; then printf '[global]\nno-index = true\nfind-links = /deps\n' >/opt/ps/pip.conf; fi \
    && mkdir ps && touch ps/__init__.py \
    && /opt/ps/bin/pip install --no-cache-dir --disable-pip-version-check ".${EXTRAS:+[$EXTRAS]}" ${PACKAGES}
WORKDIR /src
COPY . .
RUN /opt/ps/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall . \
    && rm -f /opt/ps/pip.conf

FROM ${BASE}
RUN useradd --uid 10001 --create-home ps && install -d -o ps -g ps /state /runs /mail /token && install -d -m 0700 -o ps -g ps /keys
COPY --from=build /opt/ps /opt/ps
COPY ps/examples /scripts
ENV PATH=/opt/ps/bin:$PATH PYTHONUNBUFFERED=1
USER ps
WORKDIR /scripts
ENTRYPOINT ["psctl"]
