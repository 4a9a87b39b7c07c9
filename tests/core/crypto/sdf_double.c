/* A cryptographic machine in a library: the functions of GM/T 0018 that core/crypto/sdf.py calls, on libcrypto.
 * It has one key, index 1, which is the one of GM/T 0003.5 A.2; whoever signs must have shown the password.
 * double_fail(n, code) makes the next n calls of SDF_InternalSign_ECC fail; double_sessions() counts open ones. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define COMMFAIL 0x01000003
#define PARDENY 0x01000007
#define KEYNOTEXIST 0x01000008
#define SKOPERR 0x0100000C
#define INARGERR 0x0100001D
#define MAX 64

typedef struct { unsigned int bits; unsigned char x[MAX], y[MAX]; } ECCrefPublicKey;
typedef struct { unsigned char r[MAX], s[MAX]; } ECCSignature;
typedef struct { unsigned int magic; int may; int busy; } Session;

static const char PASSWORD[] = "let me sign";
static const unsigned char PKCS8[] = {
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
    0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20, 0x39, 0x45, 0x20,
    0x8F, 0x7B, 0x21, 0x44, 0xB1, 0x3F, 0x36, 0xE3, 0x8A, 0xC6, 0xD3, 0x9F, 0x95, 0x88, 0x93, 0x93, 0x69, 0x28, 0x60,
    0xB5, 0x1A, 0x42, 0xFB, 0x81, 0xEF, 0x4D, 0xF7, 0xC5, 0xB8};

static int device, sessions, failing, failing_code;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void double_fail(int n, int code) { failing = n; failing_code = code; }
int double_sessions(void) { return sessions; }

static EVP_PKEY *key(void) {
    const unsigned char *at = PKCS8;
    return d2i_AutoPrivateKey(NULL, &at, sizeof PKCS8);
}

static Session *real(void *handle) {
    Session *session = handle;
    return session != NULL && session->magic == 0x5DF ? session : NULL;
}

int SDF_OpenDevice(void **handle) { *handle = &device; return OK; }
int SDF_CloseDevice(void *handle) { return handle == &device ? OK : INARGERR; }

int SDF_OpenSession(void *handle, void **made) {
    if (handle != &device) return INARGERR;
    Session *session = calloc(1, sizeof *session);
    session->magic = 0x5DF;
    __sync_fetch_and_add(&sessions, 1);
    *made = session;
    return OK;
}

int SDF_CloseSession(void *handle) {
    Session *session = real(handle);
    if (session == NULL) return INARGERR;
    session->magic = 0;
    free(session);
    __sync_fetch_and_sub(&sessions, 1);
    return OK;
}

int SDF_GetPrivateKeyAccessRight(void *handle, unsigned int index, char *password, unsigned int size) {
    Session *session = real(handle);
    if (session == NULL) return INARGERR;
    if (index != 1) return KEYNOTEXIST;
    if (size != strlen(PASSWORD) || memcmp(password, PASSWORD, size) != 0) return PARDENY;
    session->may = 1;
    return OK;
}

int SDF_ReleasePrivateKeyAccessRight(void *handle, unsigned int index) {
    Session *session = real(handle);
    if (session == NULL || index != 1) return INARGERR;
    session->may = 0;
    return OK;
}

int SDF_ExportSignPublicKey_ECC(void *handle, unsigned int index, ECCrefPublicKey *out) {
    if (real(handle) == NULL) return INARGERR;
    if (index != 1) return KEYNOTEXIST;
    unsigned char *der = NULL;
    EVP_PKEY *pkey = key();
    int size = i2d_PUBKEY(pkey, &der);
    EVP_PKEY_free(pkey);
    memset(out, 0, sizeof *out);
    out->bits = 256;
    memcpy(out->x + MAX - 32, der + size - 64, 32);
    memcpy(out->y + MAX - 32, der + size - 32, 32);
    OPENSSL_free(der);
    return OK;
}

/* One number of a DER signature into the last 32 bytes of `out`; where the next begins. */
static const unsigned char *number(const unsigned char *at, unsigned char *out) {
    unsigned int size = at[1];
    const unsigned char *digits = at + 2, *end = digits + size;
    while (size > 32) { digits++; size--; }
    memcpy(out + MAX - size, digits, size);
    return end;
}

int SDF_InternalSign_ECC(void *handle, unsigned int index, unsigned char *data, unsigned int size, ECCSignature *out) {
    Session *session = real(handle);
    if (session == NULL || size != 32) return INARGERR;
    if (index != 1) return KEYNOTEXIST;
    if (!session->may) return PARDENY;
    if (__sync_lock_test_and_set(&session->busy, 1)) return SKOPERR; /* two calls in one session: a fault of the caller */
    int code = OK;
    pthread_mutex_lock(&lock);
    if (failing > 0) { failing--; code = failing_code; }
    pthread_mutex_unlock(&lock);
    if (code == OK) {
        unsigned char der[80];
        size_t length = sizeof der;
        EVP_PKEY *pkey = key();
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(pkey, NULL);
        if (EVP_PKEY_sign_init(context) == 1 && EVP_PKEY_sign(context, der, &length, data, size) == 1) {
            memset(out, 0, sizeof *out);
            number(number(der + 2, out->r), out->s);
        } else {
            code = SKOPERR;
        }
        EVP_PKEY_CTX_free(context);
        EVP_PKEY_free(pkey);
    }
    __sync_lock_release(&session->busy);
    return code;
}
