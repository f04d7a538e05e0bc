"""What all tables share: the metadata they belong to, and its conventions."""

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# BIGINT everywhere: INTEGER overflows on PostgreSQL, BIGINT does not autoincrement on SQLite.
Big = BigInteger().with_variant(Integer, "sqlite")
