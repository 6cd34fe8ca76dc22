"""devices that were removed, and every certificate with its end."""

import sqlalchemy as sa
from alembic import op
from cryptography import x509

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    certificates = op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_certificates_device")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificates")),
    )
    op.create_index(op.f("ix_certificates_device"), "certificates", ["device"])
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("removed", sa.Float(), nullable=True))
        table.add_column(sa.Column("parting", sa.Boolean(), nullable=False, server_default="0"))
    # Of those that a device had before its newest, nobody knows; they end by themselves.
    for device, text in op.get_bind().execute(sa.text("SELECT id, certificate FROM devices")).all():
        if text:
            one = x509.load_pem_x509_certificate(text.encode())
            expires = one.not_valid_after_utc.timestamp()
            row = {"serial": f"{one.serial_number:x}", "device": device, "expires": expires}
            op.execute(certificates.insert().values(**row))
