"""`python3 -m labnet`: the system tests."""
import sys

from .runner import main

sys.exit(main())
