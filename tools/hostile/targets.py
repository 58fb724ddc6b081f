"""Files of targets."""


def target(changes: bytes) -> bytes:
    """A board that would be a good one but for the changes."""
    head = b'inherits = "cpu"\ntitle = "A board"\ndescription = "A board."\n'
    return head + changes + b'\n[[verification]]\nstate = "unverified"\nwhat = "nothing"\n'


def targets() -> dict[str, bytes]:
    return {
        "unknown_key.toml": target(b'shell = "rm -rf /"'),
        "inherits_a_path.toml": b'inherits = "../../../etc/passwd"\n',
        "inherits_itself.toml": b'inherits = "inherits_itself"\n',
        "inherits_a_number.toml": b"inherits = " + b"7" * 4000 + b"\n",
        "inherits_a_name_of_4000_letters.toml": b'inherits = "' + b"a" * 4000 + b'"\n',
        "nested.toml": target(b"requires = " + b"[" * 2000 + b"]" * 2000),
        "keys_nested.toml": target(b"session_options" + b".a" * 2000 + b" = 1"),
        "keys_that_take_tomllib_long.toml": target(b"session_options" + b".a" * 30_000 + b" = 1"),
        "number_of_5000_digits.toml": target(b"weight_bits = " + b"9" * 5000),
        "number_of_4000_digits.toml": target(b"weight_bits = " + b"9" * 4000),
        "not_a_number.toml": target(b"weight_bits = nan"),
        "date_for_a_number.toml": target(b"weight_bits = 1979-05-27"),
        "session_option_of_a_library.toml": target(
            b'[session_options]\n"session.load_custom_op_library" = "/tmp/evil.so"'
        ),
        "latin_1.toml": target("# K\xe4se".encode("latin-1")),
        "larger_than_any_target.toml": b"# " + b"x" * 16_384 + b"\n",
        "empty.toml": b"",
    }
