import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.regex.Pattern;

/** Shows a token with every call, one in a file as the file has it then: it may be replaced without a new channel. */
final class Token implements ClientInterceptor {
  static final Metadata.Key<String> AUTHORIZATION = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Pattern ONE_TOKEN = Pattern.compile("[A-Za-z0-9._~+/-]+=*"); // RFC 6750, 2.1
  private static final int MOST_BYTES = 16_384; // more is no token: a header would not take it

  private final String file; // null: there is none
  private volatile String last;

  /** One of the two is null. IllegalArgumentException where the file holds no token. */
  Token(String token, String file) {
    this.file = file;
    last = file == null ? token : read(file);
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + now());
    return MetadataUtils.newAttachHeadersInterceptor(headers).interceptCall(method, options, next);
  }

  /** To ask whether the file has changed would be wrong where it does twice within the clock's tick. */
  private String now() {
    if (file == null) return last;
    try {
      last = read(file);
    } catch (IllegalArgumentException spoilt) {
      // It was read before: whoever replaces the file may leave it empty, or away, for a moment.
    }
    return last;
  }

  /** The token in the file. The exception names the file, and not what it holds. */
  private static String read(String path) {
    byte[] content;
    try (InputStream opened = Files.newInputStream(Path.of(path))) {
      content = opened.readNBytes(MOST_BYTES + 1);
    } catch (IOException | InvalidPathException unreadable) {
      throw new IllegalArgumentException("tokenFile = " + path + " cannot be read", unreadable);
    }
    String token = new String(content, StandardCharsets.ISO_8859_1).strip();
    if (token.isEmpty()) throw new IllegalArgumentException("tokenFile = " + path + " is empty");
    if (content.length > MOST_BYTES || !ONE_TOKEN.matcher(token).matches()) {
      throw new IllegalArgumentException("tokenFile = " + path + " holds something else than one token");
    }
    return token;
  }
}
