"""RDB bytes for tests: the checksum, payloads of DUMP signed anew, files put together by hand."""


def _table():
    entries = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
        entries.append(crc)
    return entries


_TABLE = _table()


def crc64(data, crc=0):
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc


def sign(body, version=10):
    """A payload of DUMP: type and value with version and checksum behind them."""
    body = bytes(body) + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


def rdb_file(body, version=10):
    """A whole file around the body."""
    content = b"REDIS%04d" % version + bytes(body) + b"\xff"
    return content + crc64(content).to_bytes(8, "little")
