"""`python -m components.serve`: serve a bundle until SIGTERM or Ctrl-C."""

from components.core.bundle import read_bundle
from components.core.errors import reported
from components.serve.options import parse


def main() -> None:
    """Read the bundle, bind the port, load and warm the model up, then listen."""
    options = parse()
    with reported():
        bundle = read_bundle(options.model_dir)
        # Importing KServe takes longest. What OpenVINO does meanwhile needs no Python.
        from components.serve.server import CountingServer, bind

        http_socket = bind(options.host, options.http_port)
        if options.enable_grpc:
            bind(options.host, options.grpc_port).close()  # gRPC binds it itself; this gives the clear message

        from components.serve.model import BinCounter

        model = BinCounter(options.model_name, bundle, options.engine)
        model.load()
        server = CountingServer(options, model)
        port = http_socket.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        runtime = model.counter.runtime
        print(f"{runtime.name} runs the model on {runtime.device}, in {runtime.precision}")
        print(f"Serving {options.model_name} version {model.version} on http://{host}:{port}", flush=True)
        server.serve(http_socket)


if __name__ == "__main__":
    main()
