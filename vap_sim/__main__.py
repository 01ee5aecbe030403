"""`python -m vap_sim` is `vap-sim`."""

from vap_sim.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
