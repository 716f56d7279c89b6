import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;

/**
 * Who asks, and whom it trusts. What is null is LOSSD_CA, LOSSD_CERT and LOSSD_KEY, and, where both are, LOSSD_TOKEN or
 * LOSSD_TOKEN_FILE.
 *
 * <p>ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token: shown with
 * every call; tokenFile: in its place, the file that holds it, read for every call, so that it may be replaced. tls: true where
 * there is a ca or a cert.
 */
final class Identity {
  String ca, cert, key, token, tokenFile;
  boolean tls;

  /** IllegalArgumentException names what does not fit together. */
  ManagedChannel connect(String address) {
    String authority = or(ca, "LOSSD_CA"), certificate = or(cert, "LOSSD_CERT"), secret = or(key, "LOSSD_KEY");
    // The two ways to give a token are one question: either stands before both variables.
    String shown = or(token == null && tokenFile != null ? "" : token, "LOSSD_TOKEN");
    String mounted = or(tokenFile == null && token != null ? "" : tokenFile, "LOSSD_TOKEN_FILE");
    if ((certificate == null) != (secret == null)) throw new IllegalArgumentException("cert and key go together: give both");
    if (shown != null && mounted != null) {
      throw new IllegalArgumentException("give token or tokenFile (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both");
    }
    boolean encrypted = tls || authority != null || certificate != null;
    boolean shows = shown != null || mounted != null;
    if (shows && !encrypted && !address.matches("(localhost|127[.].*|\\[::1\\]):\\d+")) {
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
    if (shows) builder.intercept(new Token(shown, mounted));
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
    if (reason.equals("NO_CREDENTIALS")) {
      return ": give token or tokenFile (LOSSD_TOKEN, LOSSD_TOKEN_FILE), or cert and key";
    }
    if (reason.equals("UNKNOWN_TOKEN")) {
      return ": does token or tokenFile (LOSSD_TOKEN, LOSSD_TOKEN_FILE) hold what `lossd token` printed?";
    }
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
