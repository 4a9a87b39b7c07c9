"""National cryptography (国密), and the keys it is done with. Read in this order:

    sm3, sm4        hash, HMAC and authenticated encryption, by the OpenSSL inside `cryptography`
    encodings       the bytes of keys and signatures: DER outside, r || s for browsers and cryptographic machines
    sm2             sign, verify, encrypt, decrypt with a key in memory; by libcrypto (or gmssl_pyx)
    selftest        the standards' own vectors: nothing starts where one of them fails
    ring, keyring   keys by purpose, how they turn without a stop, the file or the KMS envelope they are in (kms)
    provider        who signs with the bank's keys: this process, a machine (sdf), a server (signserver)
    columns         encrypted columns of tables, and blind indexes to find by

Plain functions are synchronous and quick (SM2: a quarter of a millisecond, other threads run meanwhile).
"""
