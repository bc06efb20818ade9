# The container image: mcp-ferry, the C library it needs and the CA roots. No shell, no package manager, not root.
# Debug it with a container beside it (`docker debug`, `kubectl debug`), watch it with its log on stderr.
#
#   docker build -t mcp-ferry .
#   docker run --rm -p 8080:8080 -e MCP_FERRY_UPSTREAM=http://server:3000/mcp mcp-ferry

ARG RUST_VERSION=1.95

# Not the slim one: the allocator's own build wants make.
FROM rust:${RUST_VERSION}-trixie AS build
WORKDIR /build

# Dependencies first, against an empty crate: this layer lasts until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src && echo '//! Empty.' > src/lib.rs && printf '//! Empty.\nfn main() {}\n' > src/main.rs \
    && cargo build --release --locked && rm -r src

# The new files may carry an older date than the empty ones just compiled; touch makes cargo see them.
COPY src src
RUN find src -name '*.rs' -exec touch {} + && cargo build --release --locked

# The root of the final image: the binary, exactly the shared libraries it asks for, CA roots, a user without a shell.
RUN mkdir -p /image/usr/local/bin /image/etc/ssl/certs \
    && cp target/release/mcp-ferry /image/usr/local/bin/ \
    && ldd target/release/mcp-ferry | grep -o '/[^ ]*' | xargs -I{} cp --parents --dereference {} /image \
    && cp --dereference /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'ferry:x:65532:65532::/:/nonexistent' > /image/etc/passwd \
    && echo 'ferry:x:65532:' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
    && chroot /image mcp-ferry --version

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin \
    MCP_FERRY_LISTEN=0.0.0.0:8080
USER 65532:65532
EXPOSE 8080
# SIGTERM starts the drain, and exec form brings it to the ferry itself. Give `docker stop` at least the drain's time.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=2s CMD ["mcp-ferry", "health"]
ENTRYPOINT ["mcp-ferry"]
