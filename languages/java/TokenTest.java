import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import lossd.v1.LossServiceGrpc;
import lossd.v1.Open;

/** A token in a file: what a channel shows, and what `connect` refuses. */
final class TokenTest {
  private TokenTest() {}

  private static Identity mounted(Path file) {
    Identity made = new Identity();
    made.tokenFile = file.toString();
    return made;
  }

  private static String refusal(Identity identity) {
    return LossdTest.thrown(IllegalArgumentException.class, () -> identity.connect("127.0.0.1:1")).getMessage();
  }

  static void run() {
    LossdTest.test("a call, and a stream, shows what the file holds then; one that holds none any more changes nothing", () -> {
      Path file = Files.createTempFile("lossd", "token");
      Files.writeString(file, "first\n");
      List<String> shown = Collections.synchronizedList(new ArrayList<>()), expected = new ArrayList<>();
      LossdTest.served(StandIns.showing(shown), mounted(file), by -> {
        for (String content : Arrays.asList("first\n", "other", "", "one\ntwo", null, " last==\r\n")) {
          if (content == null) Files.delete(file);
          else Files.writeString(file, content);
          LossdTest.ask(by, 1, 2);
          Open.Builder open = Open.newBuilder().setCrossEntropy(LossdTest.zeros(1, 2));
          Lossd.evaluateMany(LossServiceGrpc.newStub(by), 1, i -> open, 1);
        }
        return true;
      });
      Files.delete(file);
      for (String one : List.of("first", "other", "other", "other", "other", "last==")) {
        expected.addAll(List.of("Bearer " + one, "Bearer " + one));
      }
      return shown.equals(expected);
    });
    LossdTest.test("a file that holds no token is named, and not what it holds; a token and its file are too many", () -> {
      Path file = Files.createTempFile("lossd", "token");
      for (String content : List.of("", "\n", "secret\n2", "=secret", "secret\0", "s".repeat(20_000))) {
        Files.writeString(file, content);
        String what = content.isBlank() ? " is empty" : " holds something else than one token";
        if (!refusal(mounted(file)).equals("tokenFile = " + file + what)) return false;
      }
      Identity both = mounted(file);
      both.token = "given";
      Files.writeString(file, "held");
      if (!refusal(both).endsWith("not both")) return false;
      Files.delete(file);
      return refusal(mounted(file)).equals("tokenFile = " + file + " cannot be read")
          && refusal(mounted(file.getParent())).equals("tokenFile = " + file.getParent() + " cannot be read");
    });
  }
}
