"""The checker that runs over every annotation in tests: beartype, with int accepted where float is said (PEP 484)."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
