import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;

/**
 * Who asks, and whom it trusts. What is null is LOSSD_CA, LOSSD_CERT, LOSSD_KEY and LOSSD_TOKEN.
 *
 * <p>ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token: shown with
 * every call. tls: true where there is a ca or a cert.
 */
final class Identity {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  String ca, cert, key, token;
  boolean tls;

  /** IllegalArgumentException names what does not fit together. */
  ManagedChannel connect(String address) {
    String authority = or(ca, "LOSSD_CA"), certificate = or(cert, "LOSSD_CERT"), secret = or(key, "LOSSD_KEY");
    String shown = or(token, "LOSSD_TOKEN");
    if ((certificate == null) != (secret == null)) throw new IllegalArgumentException("cert and key go together: give both");
    boolean encrypted = tls || authority != null || certificate != null;
    if (shown != null && !encrypted && !address.matches("(localhost|127[.].*|\\[::1\\]):\\d+")) {
      throw new IllegalArgumentException("a token goes to " + address + " by TLS only: give tls or ca");
    }
    // Every gRPC library refuses answers above 4 MiB unless told otherwise; gradients are as large as their tensors.
    ManagedChannelBuilder<?> builder;
    try {
      builder = Grpc.newChannelBuilder(
          address, encrypted ? security(authority, certificate, secret) : InsecureChannelCredentials.create());
    } catch (UnsupportedOperationException noAlpn) {
      throw new IllegalStateException("TLS needs a netty with ALPN; Debian's has it by libnetty-tcnative-java", noAlpn);
    }
    builder.maxInboundMessageSize(Integer.MAX_VALUE);
    builder.disableRetry(); // Lossd.call repeats: it sees what the server asks to wait
    if (shown != null) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + shown);
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    return builder.build();
  }

  private static ChannelCredentials security(String ca, String cert, String key) {
    TlsChannelCredentials.Builder made = TlsChannelCredentials.newBuilder();
    try {
      if (ca != null) made.trustManager(file("ca", ca));
      if (cert != null) made.keyManager(file("cert", cert), file("key", key));
      return made.build();
    } catch (IOException | RuntimeException unreadable) {
      throw new IllegalArgumentException("ca, cert or key cannot be used: " + unreadable.getMessage(), unreadable);
    }
  }

  private static File file(String name, String path) {
    File found = new File(path);
    if (!found.canRead()) throw new IllegalArgumentException(name + " = " + path + " cannot be read");
    return found;
  }

  private static String or(String given, String variable) {
    String found = given != null ? given : System.getenv(variable);
    return found == null || found.isEmpty() ? null : found;
  }

  /** What to give, where the words of a failure or the server's reason tell it: the end of a sentence. */
  static String advice(String reason, Throwable failed) {
    if (reason.equals("NO_CREDENTIALS")) return ": give token (LOSSD_TOKEN), or cert and key";
    if (reason.equals("UNKNOWN_TOKEN")) return ": is token (LOSSD_TOKEN) what `lossd token` printed?";
    for (Throwable one = failed; one != null; one = one.getCause()) {
      String words = one.toString();
      if (words.contains("PKIX path")) return ": give ca (LOSSD_CA), the authority that signed the server's certificate";
      if (words.contains("not an SSL/TLS record")) return ": the server has no TLS, give neither tls, ca nor cert";
      if (words.contains("No subject alternative") || words.contains("No name matching")) {
        return ": the server's certificate is for another host, use a name that it has";
      }
      if (words.contains("fatal alert")) return ": does the server want a certificate (cert and key), or another one?";
      if (words.contains("reset") || words.contains("closed")) {
        return ": does the server want TLS (ca, tls), or a certificate (cert and key)?";
      }
    }
    return "";
  }
}
