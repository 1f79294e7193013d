"""Start of the command line. Nothing is imported before Ctrl-C can be answered."""

import sys

if __name__ == "__main__":
    try:
        from pipeline.cli import main

        main()
    except KeyboardInterrupt:
        print("\ninterrupted; the next run goes on from what is whole.", file=sys.stderr)
        sys.exit(130)
