# The program alone, run as a user without rights; it writes nothing to its file system.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin sync-es && cp target/release/sync-es /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/sync-es /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["sync-es"]
CMD ["run"]
