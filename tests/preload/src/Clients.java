import java.net.*;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;

/** The ways in which Java programs use the network. Arguments: which, server. */
public class Clients {
    public static void main(String[] args) throws Exception {
        String server = args[1];
        switch (args[0]) {
            case "url" -> {
                var c = (HttpURLConnection) new URL("http://" + server + "/").openConnection();
                ok(c.getResponseCode() == 200);
            }
            case "client" -> {
                var r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://" + server + "/")).build(),
                        HttpResponse.BodyHandlers.ofString());
                ok(r.statusCode() == 200);
            }
            case "socket" -> {
                try (var s = new Socket(server, 7)) {
                    s.getOutputStream().write('x');
                    ok(s.getInputStream().read() == 'x' && s.getInetAddress().getHostAddress().equals(server)
                            && ((InetSocketAddress) s.getRemoteSocketAddress()).getPort() == 7);
                }
            }
            case "nio" -> {
                var sel = Selector.open();
                var ch = SocketChannel.open();
                ch.configureBlocking(false);
                ch.register(sel, SelectionKey.OP_CONNECT);
                ch.connect(new InetSocketAddress(server, 7));
                sel.select(9000);
                ok(ch.finishConnect());
            }
            case "datagram" -> {
                try (var s = new DatagramSocket()) {
                    s.setSoTimeout(5000);
                    var to = new InetSocketAddress(server, 7);
                    s.send(new DatagramPacket(new byte[] { 'x' }, 1, to));
                    var got = new DatagramPacket(new byte[9], 9);
                    s.receive(got);
                    ok(got.getLength() == 1 && got.getSocketAddress().equals(to));
                }
            }
            default -> ok(false);
        }
    }

    static void ok(boolean yes) {
        System.out.println(yes ? "java-ok" : "no");
        System.exit(yes ? 0 : 1);
    }
}
