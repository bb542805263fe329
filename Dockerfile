# The gate without the sandbox, as an image that has nothing in it but the program.
#
#   docker build -t pullgate .
#   docker run -v $PWD/pullgate:/etc/pullgate:ro -v pullgate:/var/lib/pullgate -p 5080:5080 pullgate
#
# In the configuration, `listen` has to be 0.0.0.0:5080 for the port to be reached from outside;
# `admin` too, where a monitor outside of the container asks for /metrics. A `cache.directory`
# has to be writable for the user 65532.

FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
# Line tables are most of the size, and a distroless image has nobody to read them.
ENV CARGO_PROFILE_DIST_STRIP=debuginfo
# A folder for `cache.directory`, so that a volume in its place belongs to the user as well.
RUN mkdir -p /var/lib/pullgate
RUN cargo build --profile dist --locked --no-default-features --bin pullgate

# glibc, libgcc and a user without rights; the web's certificate authorities are in the program.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=65532:65532 /var/lib/pullgate /var/lib/pullgate
COPY --from=build /build/target/dist/pullgate /usr/local/bin/pullgate
EXPOSE 5080 5081
ENTRYPOINT ["/usr/local/bin/pullgate"]
CMD ["serve", "--config", "/etc/pullgate/pullgate.yaml", "--log-format", "json"]
